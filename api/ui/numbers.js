// Telephone numbers in any usual spelling: the same rules as sinks/clickhouse/phone_numbers.py. Pure.

const AROUND = /^\s*(?:tel|sips?):|[@;].*$/gi; // scheme, host and parameters of an address
const NUMBER = /^[+0-9\s().\-/\u2010-\u2015\u00a0]+$/;
const ABROAD = /^011(?=[0-9]{10})|^0+/; // the prefixes of other countries, and the trunk prefix

/** The digits of a number that somebody looks for, without prefixes; "" if the text is not a number. */
export function wantedDigits(text) {
  const number = text.replace(AROUND, "");
  if (!NUMBER.test(number)) return "";
  const digits = number.replace("(0)", "").replace(/[^0-9]/g, "").replace(ABROAD, "");
  return digits.length >= 3 ? digits : "";
}

/** Whether a call's number has these digits: it contains them, or it is them without the country code. */
export function fitsNumber(number, wanted) {
  if (!wanted) return false;
  const digits = number.replace(AROUND, "").replace(/[^0-9]/g, "").replace(/^0+/, "");
  return digits.includes(wanted) || (digits.length >= 7 && wanted.endsWith(digits));
}
