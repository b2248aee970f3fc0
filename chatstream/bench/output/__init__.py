"""What a run leaves behind: files, and what is shown of it."""
