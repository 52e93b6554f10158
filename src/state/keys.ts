// The order of keys: by their UTF-8 bytes, as SQLite and Redis compare.

export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

const LAST = 0x10ffff;
const SURROGATES = { first: 0xd800, last: 0xdfff } as const;

/** The least text that is greater than every text with this prefix; undefined where there is none, as for no prefix at all. */
export function endOfPrefix(prefix: string): string | undefined {
  const character = /.$/su.exec(prefix)?.[0];
  if (character === undefined) return undefined;
  const rest = prefix.slice(0, -character.length);
  const point = character.codePointAt(0) ?? 0;
  if (point === LAST) return endOfPrefix(rest);
  const next = point + 1 === SURROGATES.first ? SURROGATES.last + 1 : point + 1;
  return rest + String.fromCodePoint(next);
}
