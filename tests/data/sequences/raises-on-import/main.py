def read_settings():
    raise KeyError("HOME_OF_THE_SETTINGS")

read_settings()

def run(context, input):
    print("never")
