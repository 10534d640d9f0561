"""Reading and writing YAML, with whichever library this Python has."""
import io
import sys


class _Plain:
    """PyYAML behind the two calls that hooks make."""

    def __init__(self, library):
        self._library = library

    def load(self, source):
        return self._library.safe_load(source)

    def dump(self, data, stream=None):
        if hasattr(stream, "write_text"):
            stream.write_text(self.dump(data))
            return None
        return self._library.safe_dump(data, stream, sort_keys=False)


def get_yaml():
    try:
        from ruamel.yaml import YAML
    except ImportError:
        pass
    else:
        yaml = YAML()
        yaml.preserve_quotes = True
        yaml.indent(sequence=3, offset=1)
        return yaml
    try:
        import yaml
    except ImportError:
        raise ImportError("this hook reads YAML: install ruamel.yaml or PyYAML for python3")
    return _Plain(yaml)


def read_yaml(path):
    with open(path, encoding="utf-8") as f:
        return get_yaml().load(f)


def write_yaml(path, data):
    out = io.StringIO()
    get_yaml().dump(data, out)
    with open(path, "w", encoding="utf-8") as f:
        f.write(out.getvalue())


def error_exit(text):
    print("Error: " + str(text), file=sys.stderr)
    sys.exit(1)
