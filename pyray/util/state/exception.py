"""Ray's `ray.util.state.exception`."""


class RayStateApiException(Exception):
    """The state of a session could not be looked at."""
