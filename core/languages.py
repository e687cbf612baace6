"""Language codes: those that Whisper knows, which include all of Soniox and OpenAI. Pure."""

from typing import Annotated

from pydantic import AfterValidator

# Code and name as in Whisper: ISO 639-1, except haw, yue and jw (today jv).
_TABLE = """
af afrikaans am amharic ar arabic as assamese az azerbaijani ba bashkir be belarusian bg bulgarian bn bengali bo tibetan
br breton bs bosnian ca catalan cs czech cy welsh da danish de german el greek en english es spanish et estonian
eu basque fa persian fi finnish fo faroese fr french gl galician gu gujarati ha hausa haw hawaiian he hebrew hi hindi
hr croatian ht haitian_creole hu hungarian hy armenian id indonesian is icelandic it italian ja japanese jw javanese
ka georgian kk kazakh km khmer kn kannada ko korean la latin lb luxembourgish ln lingala lo lao lt lithuanian lv latvian
mg malagasy mi maori mk macedonian ml malayalam mn mongolian mr marathi ms malay mt maltese my myanmar ne nepali
nl dutch nn nynorsk no norwegian oc occitan pa punjabi pl polish ps pashto pt portuguese ro romanian ru russian
sa sanskrit sd sindhi si sinhala sk slovak sl slovenian sn shona so somali sq albanian sr serbian su sundanese
sv swedish sw swahili ta tamil te telugu tg tajik th thai tk turkmen tl tagalog tr turkish tt tatar uk ukrainian ur urdu
uz uzbek vi vietnamese yi yiddish yo yoruba yue cantonese zh chinese
"""
NAMES = {code: name.replace("_", " ") for code, name in zip(_TABLE.split()[::2], _TABLE.split()[1::2], strict=True)}
CODES = {name: code for code, name in NAMES.items()}


def _validate_code(text: str) -> str:
    """Returns the text if it can be a language code. Raises ValueError.

    Two lower-case letters outside the table are accepted, because a self-hosted server may know more languages.
    """
    if text in NAMES or (len(text) == 2 and text.isascii() and text.isalpha() and text.islower()):
        return text
    word = text.strip().lower()
    first = word.replace("_", "-").partition("-")[0]  # "de" of "de-CH"
    suggestion = CODES.get(word) or (first if first in NAMES else "")
    raise ValueError(f"{text!r} is not a language code (ISO 639-1): write {suggestion or 'en, de, es, …'}")


Language = Annotated[str, AfterValidator(_validate_code)]
"""Type of a setting that holds a language code."""
