import datetime
from dataclasses import dataclass

output_type = "application/x-ndjson"

@dataclass
class Seen:
    who: str
    when: datetime.date

async def run(context, input):
    yield Seen("Ada", datetime.date(1842, 9, 1))
