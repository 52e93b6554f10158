// What a 401 asks for. RFC 9110 section 11.6.1 and the distribution project's token specification.

/** One challenge of a WWW-Authenticate header; `scheme` and the names of `parameters` in lower case. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** A scheme may have a token68 in place of parameters: it is read as a word, and passed over. Some put a semicolon where a comma belongs. */
const PART = /([A-Za-z0-9!#$%&'*+.^_`|~/-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]+)))?[\s,;]*/gy;

/** The challenges in their order; what comes after the first fault in the grammar is ignored. */
export function parseChallenges(header: string): readonly Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  for (const [, word = '', quoted, plain] of header.replace(/^[\s,;]+/, '').matchAll(PART)) {
    const value = quoted?.replace(/\\(.)/g, '$1') ?? plain;
    if (value === undefined) challenges.push({ scheme: word.toLowerCase(), parameters: new Map() });
    else challenges.at(-1)?.parameters.set(word.toLowerCase(), value);
  }
  return challenges;
}

/** The challenge that we can answer: bearer before basic, unless it does not say where its tokens are to be had. */
export function findChallenge(header: string): Challenge | undefined {
  const challenges = parseChallenges(header);
  const [bearer, basic] = ['bearer', 'basic'].map(wanted => challenges.find(({ scheme }) => scheme === wanted));
  return bearer?.parameters.get('realm') || !basic ? bearer : basic;
}
