"""The wire between a hub and a runner, as pure functions and state machines: no socket, loop, clock or log."""
