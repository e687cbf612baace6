-- What language models counted, for lines of work that was done by one: see schemas.events.Tokens.
ALTER TABLE ledger
    ADD COLUMN IF NOT EXISTS prompt_tokens UInt64 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS cached_tokens UInt64 DEFAULT 0, -- of the prompt's
    ADD COLUMN IF NOT EXISTS answer_tokens UInt64 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS thought_tokens UInt64 DEFAULT 0;
