def run(context, input):
    print("called")

if __name__ == "__main__":
    raise SystemExit("this is no script")
