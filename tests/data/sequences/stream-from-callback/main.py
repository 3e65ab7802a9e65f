import asyncio
from scramjet.streams import Stream

words = ["a", "b", "c", ""]

async def next_word(end):
    await asyncio.sleep(0)
    word = words.pop(0)
    return word and word + end

def run(context, input):
    return Stream.from_callback(4, next_word, ".")
