def transform(context, input):
    return input
