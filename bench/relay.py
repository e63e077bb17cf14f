"""Makes a database as far away as it would be in a network: what is sent arrives later.

Only statements wait, so the delay is that of a whole round trip. With asyncio's own loop, because
the clock of uvloop has steps of a millisecond.
"""

import asyncio
import sys
from asyncio import StreamReader, StreamWriter


async def main(port: int, database_port: int, delay_seconds: float) -> None:
    async with await listen(port, database_port, delay_seconds) as server:
        await server.serve_forever()


async def listen(port: int, database_port: int, delay_seconds: float) -> asyncio.Server:
    async def accept(statements: StreamReader, answers: StreamWriter) -> None:
        from_database, to_database = await asyncio.open_connection("127.0.0.1", database_port)
        async with asyncio.TaskGroup() as group:
            group.create_task(hand_on(statements, to_database, delay_seconds))
            group.create_task(hand_on(from_database, answers, 0))

    return await asyncio.start_server(accept, "127.0.0.1", port)


async def hand_on(reader: StreamReader, writer: StreamWriter, delay_seconds: float) -> None:
    later = asyncio.get_running_loop().call_later
    while received := await reader.read(65536):
        later(delay_seconds, writer.write, received)
    later(delay_seconds, writer.close)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
