// Words of others in a shell command of ours.

/** One word of a POSIX shell, whatever is in it but line ends, which a Containerfile would see first. */
export function quoteWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
