"""What all tests share."""

import signal

from hypothesis import HealthCheck, settings

# Properties are judged by what they find, never by how long a busy machine takes.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# A shell that starts the tests in the background lets them ignore Ctrl-C, and the processes they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
