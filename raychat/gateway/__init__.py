"""The edge: WebSocket sessions and the HTTP API. Keeps no state that matters."""
