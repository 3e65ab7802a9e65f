def run(context, input):
    return input.map(str.strip).batch(lambda word: word.endswith(".")).map(lambda words: "|".join(words) + "\n")
