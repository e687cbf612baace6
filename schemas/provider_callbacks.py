"""Path and secret header of the callback by which a provider reports that an order is done."""

WEBHOOK_PATH = "/v1/notices/soniox"
WEBHOOK_HEADER = "X-AudioText-Secret"
