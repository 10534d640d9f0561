class _Options:
    """Switches of the command line; a hook is run with none of them."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return False


class opts:
    o = _Options()
