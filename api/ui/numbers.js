// Matches phone numbers in any usual notation: the same rules as sinks/clickhouse/phone_numbers.py. Pure.

const URI_PARTS = /^\s*(?:tel|sips?):|[@;].*$/gi; // scheme, host and parameters of an address
const NUMBER = /^[+0-9\s().\-/\u2010-\u2015\u00a0]+$/;
const DIAL_PREFIX = /^011(?=[0-9]{10})|^0+/; // international prefixes, and the trunk prefix

/** Returns the digits of a searched number without prefixes; "" if the text is not a number. */
export function searchDigits(text) {
  const number = text.replace(URI_PARTS, "");
  if (!NUMBER.test(number)) return "";
  const digits = number.replace("(0)", "").replace(/[^0-9]/g, "").replace(DIAL_PREFIX, "");
  return digits.length >= 3 ? digits : "";
}

/** True if a call's number contains these digits, or equals them without the country code. */
export function matchesNumber(number, wanted) {
  if (!wanted) return false;
  const digits = number.replace(URI_PARTS, "").replace(/[^0-9]/g, "").replace(/^0+/, "");
  return digits.includes(wanted) || (digits.length >= 7 && wanted.endsWith(digits));
}
