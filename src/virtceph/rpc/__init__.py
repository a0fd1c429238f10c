"""The edge: asyncio, HTTP and JSON-RPC. The one crossing into threads is `lanes`."""
