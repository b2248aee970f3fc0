"""A key, a prompt and an answer that must show up nowhere."""

KEY = "sk-canary-0123456789"
PROMPT = "canary prompt: the colour of secrets"
OUTPUT = "canary answer: the wind is blue"
