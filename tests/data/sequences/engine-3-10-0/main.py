def run(context, input):
    print("runs")
