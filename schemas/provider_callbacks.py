"""How a provider tells that an order is done: where, and the header with a secret of ours that each order names."""

WEBHOOK_PATH = "/v1/notices/soniox"
WEBHOOK_HEADER = "X-AudioText-Secret"
