-- Tokens that a language model counted, for lines of its work: see schemas.events.Tokens.
ALTER TABLE ledger
    ADD COLUMN IF NOT EXISTS prompt_tokens UInt64 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS cached_tokens UInt64 DEFAULT 0, -- part of prompt_tokens
    ADD COLUMN IF NOT EXISTS answer_tokens UInt64 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS thought_tokens UInt64 DEFAULT 0;
