// Patterns of recipes: image names with placeholders for parts of the requested name.

/** The message says what is wrong, and what would be right. */
export class InvalidRecipe extends Error {
  override readonly name = 'InvalidRecipe';
}

/** The values of placeholders, by name. */
export type Values = ReadonlyMap<string, string>;

export interface Pattern {
  /** Of the placeholders, in their order. */
  readonly placeholders: readonly string[];
  /** Whether some tag of the repository may match. */
  matchesRepository(repository: string): boolean;
  /** The values in a full name and its tag; undefined where they do not match. */
  match(repository: string, tag: string): Values | undefined;
}

/** Matches a part of a component or of the tag. */
const PLACEHOLDER = /^\{([A-Za-z_][A-Za-z0-9_]*)\}$/;
/** Matches one component or more; must be a component of its own. */
const SPAN = /^(?:\{([A-Za-z_][A-Za-z0-9_]*)\.\.\.\}|\*\*)$/;
const LITERAL = /^[A-Za-z0-9._:-]*$/;
/** More of them would take long to match against a maliciously chosen name. */
const MAX_WILDCARDS = 3;

/** Parses `<registry>/<repository>:<tag>`, each part with placeholders and `*`. Throws InvalidRecipe. */
export function parsePattern(text: string): Pattern {
  const colon = text.lastIndexOf(':');
  if (colon <= text.lastIndexOf('/')) throw invalid(text, 'has no tag: end it with :latest, :{tag} or :*');
  const path = parsePath(text.slice(0, colon).split('/'), text);
  const tag = parseComponent(text.slice(colon + 1), text);
  const placeholders = [...path.placeholders, ...tag.placeholders];
  const twice = placeholders.find((name, i) => placeholders.indexOf(name) < i);
  if (twice !== undefined) throw invalid(text, `has {${twice}} twice`);
  return {
    placeholders,
    matchesRepository: repository => path.match(repository.split('/')) !== undefined,
    match(repository, tagText) {
      const ofPath = path.match(repository.split('/'));
      const ofTag = tag.match(tagText);
      return ofPath && ofTag && new Map([...ofPath, ...ofTag]);
    },
  };
}

interface Matcher<T> {
  readonly placeholders: readonly string[];
  match(given: T): Values | undefined;
}

function parsePath(components: readonly string[], text: string): Matcher<readonly string[]> {
  if (components.length < 2)
    throw invalid(text, 'names no registry: begin it with a host, an alias or a hosted prefix');
  const at = components.findIndex(component => SPAN.test(component));
  if (at < 0) return parseFixed(components, text);
  const before = parseFixed(components.slice(0, at), text);
  const after = parseFixed(components.slice(at + 1), text);
  const name = SPAN.exec(components[at] ?? '')?.[1];
  const fixed = components.length - 1;
  return {
    placeholders: [...before.placeholders, ...(name === undefined ? [] : [name]), ...after.placeholders],
    match(given) {
      const end = given.length - (fixed - at);
      if (given.length <= fixed) return undefined;
      const [first, last] = [before.match(given.slice(0, at)), after.match(given.slice(end))];
      const span: Values = name === undefined ? new Map() : new Map([[name, given.slice(at, end).join('/')]]);
      return first && last && new Map([...first, ...span, ...last]);
    },
  };
}

function parseFixed(components: readonly string[], text: string): Matcher<readonly string[]> {
  const matchers = components.map(component => parseComponent(component, text));
  return {
    placeholders: matchers.flatMap(({ placeholders }) => placeholders),
    match(given) {
      if (given.length !== matchers.length) return undefined;
      const values = matchers.map((matcher, i) => matcher.match(given[i] ?? ''));
      return values.every(value => value !== undefined) ? new Map(values.flatMap(value => [...value])) : undefined;
    },
  };
}

function parseComponent(component: string, text: string): Matcher<string> {
  const pieces = component.split(/(\{[^{}]*\}|\*)/).filter(Boolean);
  const wildcards = pieces.filter(isWildcard);
  const wrong = pieces.find(piece => !isWildcard(piece) && !LITERAL.test(piece));
  if (component === '') throw invalid(text, 'has an empty component');
  if (wrong !== undefined) throw invalid(text, `has "${wrong}": expected letters, digits, . _ - * and {placeholder}`);
  if (wildcards.length > MAX_WILDCARDS)
    throw invalid(text, `has more than ${MAX_WILDCARDS} wildcards in "${component}"`);
  if (pieces.some((piece, i) => isWildcard(piece) && isWildcard(pieces[i + 1] ?? ''))) {
    throw invalid(text, `has two wildcards with nothing between them in "${component}"`);
  }
  const expression = new RegExp(
    `^${pieces.map(piece => (isWildcard(piece) ? '(.+)' : RegExp.escape(piece))).join('')}$`,
  );
  const names = wildcards.map(piece => PLACEHOLDER.exec(piece)?.[1]);
  return {
    placeholders: names.filter(name => name !== undefined),
    match(given) {
      const [, ...found] = expression.exec(given) ?? [];
      if (!expression.test(given)) return undefined;
      return new Map(names.flatMap((name, i) => (name === undefined ? [] : [[name, found[i] ?? ''] as const])));
    },
  };
}

function isWildcard(piece: string): boolean {
  return piece === '*' || PLACEHOLDER.test(piece);
}

function invalid(text: string, reason: string): InvalidRecipe {
  return new InvalidRecipe(`the pattern "${text}" ${reason}`);
}
