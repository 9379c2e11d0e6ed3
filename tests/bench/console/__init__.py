"""The console's benchmark: a light VNC server, a light browser, a plain relay, and what runs them."""
