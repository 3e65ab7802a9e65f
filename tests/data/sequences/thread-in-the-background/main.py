import threading

def run(context, input):
    thread = threading.Thread(target=lambda: print("from a thread"))
    thread.start()
    thread.join()
