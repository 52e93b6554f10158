// What is wrong with a build context.

/** It cannot be used as given. `message` is for people: it names the entry and the rule, and holds no secret. */
export class InvalidContext extends Error {
  override readonly name = 'InvalidContext';
}

/** What is wrong with one entry. */
export function invalidEntry(name: string, reason: string, cause?: unknown): InvalidContext {
  return new InvalidContext(`build context: ${quoteName(name)}: ${reason}`, { cause });
}

const MAX_SHOWN = 160;

/** A name as messages show it: whoever chose it may have put anything in it. */
export function quoteName(name: string): string {
  const shown = name.length > MAX_SHOWN ? `${name.slice(0, MAX_SHOWN)}…` : name;
  return JSON.stringify(shown.toWellFormed());
}
