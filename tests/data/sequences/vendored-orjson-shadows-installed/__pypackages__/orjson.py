import json

WHOSE = "the package's"
OPT_APPEND_NEWLINE = 1024

def loads(text):
    value = json.loads(text)
    if isinstance(value, dict):
        value["read"] = "by the package"
    return value

def dumps(value, default=None, option=0):
    return json.dumps(value, default=default).encode() + (b"\n" if option & OPT_APPEND_NEWLINE else b"")
