"""What tests and measurements of chat clients need.

::

    from chatstream.testing import Profile, SimulatedServer

    async with SimulatedServer(Profile.preset("instant")) as server:
        ...  # a client of server.base_url
        assert server.requests[0].body["stream"]
"""

from chatstream.testing.backend import RecordedRequest
from chatstream.testing.clock import FakeClock
from chatstream.testing.profile import Profile
from chatstream.testing.server import SimulatedServer, serve

__all__ = ["FakeClock", "Profile", "RecordedRequest", "SimulatedServer", "serve"]
