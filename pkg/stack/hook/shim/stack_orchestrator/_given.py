"""What the program that runs a hook knows of its deployment."""
values = {}


def load(found):
    values.update(found)


def get(key, default=None):
    found = values.get(key)
    return default if found is None else found


def args():
    return list(get("args", []))
