"""The engine: asyncio conducts, threads carry. It knows promises (`*/base.py`) and decisions (`core`), no implementation."""
