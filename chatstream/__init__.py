"""Stream chat completions on asyncio and know when each piece arrived."""

__version__ = "0.1.0"
