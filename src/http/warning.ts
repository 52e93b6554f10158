// What a client should tell its user although the request went well. distribution-spec "Warnings".

/** With every character escaped, they stay below the 4096 bytes that all warnings of a response may have. */
const MAX_CHARACTERS = 2000;

/** The value of a Warning header. What is not printable ASCII becomes a question mark, and what is too long is cut. */
export function formatWarning(text: string): string {
  const printable = text.slice(0, MAX_CHARACTERS).replace(/[^\x20-\x7e]/g, '?');
  return `299 - "${printable.replace(/["\\]/g, '\\$&')}"`;
}
