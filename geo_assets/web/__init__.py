"""What every web server of the project shares: who may talk to it, and how long it waits for them."""
