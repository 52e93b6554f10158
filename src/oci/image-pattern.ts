// Patterns of images, as used in rules: globs of full names, with or without a tag.
import { createNameTest, EXPECTED_GLOB, isQuickGlob } from './name-pattern.ts';

export interface ImagePattern {
  /** As written. */
  readonly text: string;
  /** Whether it is limited to some tags. */
  readonly isOfTag: boolean;
  /** Whether the name matches, whatever the tag. */
  matchesName(repository: string): boolean;
  /** Without a tag, a pattern limited to some tags never matches. */
  matches(repository: string, tag: string | undefined): boolean;
}

/** A pattern that can never match, or is ambiguous. */
export class InvalidPattern extends Error {
  override readonly name = 'InvalidPattern';
}

const MAX_CHARACTERS = 512;
const EXAMPLE = 'such as docker.io/library/alpine, docker.io/** or ghcr.io/org/tool:1.*';
const PAIRS: ReadonlyMap<string, string> = new Map([
  ['{', '}'],
  ['[', ']'],
  ['(', ')'],
]);

/** `*` stays within a component, `**` does not. Anything after a colon in the last component is a glob of tags. Throws InvalidPattern. */
export function parseImagePattern(text: string): ImagePattern {
  if (text.length > MAX_CHARACTERS) throw invalid(text, `it has more than ${MAX_CHARACTERS} characters`);
  const colon = text.indexOf(':', text.lastIndexOf('/') + 1);
  const name = colon === -1 ? text : text.slice(0, colon);
  const tag = colon === -1 ? undefined : text.slice(colon + 1);
  checkText(text);
  checkName(text, name);
  for (const part of [name, tag ?? '']) checkPairs(text, part);
  if (tag === '') throw invalid(text, 'nothing follows its colon');
  const matchesName = createNameTest([name]);
  const matchesTag = tag === undefined ? () => true : createNameTest([tag]);
  return {
    text,
    isOfTag: tag !== undefined,
    matchesName,
    matches(repository, pulled) {
      return matchesName(repository) && (tag === undefined || (pulled !== undefined && matchesTag(pulled)));
    },
  };
}

function checkText(text: string): void {
  if (text.startsWith('!')) throw invalid(text, 'use `not` to exclude images');
  if (text.includes('@')) throw invalid(text, 'it has a digest; rules match names and tags');
  if (/[\s\p{Cc}\\]/u.test(text)) throw invalid(text, 'it has a space, a control character or a backslash');
  if (!isQuickGlob(text)) throw invalid(text, EXPECTED_GLOB);
}

function checkName(text: string, name: string): void {
  if (name !== name.toLowerCase()) throw invalid(text, 'names are lower-case');
  if (name !== '**' && !name.includes('/')) throw invalid(text, `expected a full name, ${EXAMPLE}`);
  const slash = name.indexOf('/');
  if (slash !== -1 && name.includes(':', slash)) throw invalid(text, 'a colon comes before its last slash');
  // A glob in its first component may match another registry.
  const [, hub, own = ''] = /^((?:index\.|registry-1\.)?docker\.io)\/(.*)$/.exec(name) ?? [];
  if (hub !== undefined && hub !== 'docker.io') throw invalid(text, 'use docker.io for Docker Hub');
  if (hub !== undefined && !own.includes('/') && !own.includes('**')) {
    throw invalid(text, 'names of Docker Hub have two components, such as docker.io/library/alpine');
  }
}

/** A colon within braces would split them. */
function checkPairs(text: string, part: string): void {
  const open: string[] = [];
  for (const character of part) {
    const closing = PAIRS.get(character);
    if (closing !== undefined) open.push(closing);
    else if (character === open.at(-1)) open.pop();
    else if ([...PAIRS.values()].includes(character)) throw invalid(text, `it has an unmatched "${character}"`);
  }
  const missing = open.at(-1);
  if (missing !== undefined) throw invalid(text, `it lacks a closing "${missing}", or has a colon before it`);
}

function invalid(text: string, reason: string): InvalidPattern {
  return new InvalidPattern(`${JSON.stringify(text.slice(0, MAX_CHARACTERS))} is not an image pattern: ${reason}`);
}
