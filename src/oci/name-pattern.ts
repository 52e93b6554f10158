// Patterns of repository names and tags, as operators write them in rules about them.
import picomatch from 'picomatch';

export interface TagPattern {
  /** Globs of full names: `*` stays within a component, `**` does not. */
  readonly repositories: readonly string[];
  readonly tags: readonly string[];
}

/** Names and tags may begin with a dot nowhere, but hold one anywhere. */
const OPTIONS = { dot: true, strictSlashes: true, nonegate: true } as const;

/** Each more takes a hundred times as long to see that a name does not fit, and whoever pulls chooses the name. */
const MAX_IN_COMPONENT = 3;
const MAX_IN_ALL = 6;
const STRETCHES = /\*+|!\(/g;
export const EXPECTED_GLOB = `expected at most ${MAX_IN_COMPONENT} times * in a component and ${MAX_IN_ALL} in all, and no +( or *(`;

/** Whether the glob takes little time for any name. Braces are looked at as they are written. */
export function isQuickGlob(glob: string): boolean {
  const count = (text: string) => text.match(STRETCHES)?.length ?? 0;
  const isBounded = glob.split('/').every(component => count(component) <= MAX_IN_COMPONENT);
  return isBounded && count(glob) <= MAX_IN_ALL && !/[+*]\(/.test(glob);
}

/** Whether one of the globs matches a full name, such as `docker.io/library/alpine`. */
export function createNameTest(globs: readonly string[]): (name: string) => boolean {
  const tests = globs.map(glob => (isPlain(glob) ? createPlainTest(glob) : picomatch(glob, OPTIONS)));
  return name => tests.some(test => test(name));
}

/** Nothing but stars means anything in it. */
const PLAIN = /^(?!\.)[A-Za-z0-9._:/*-]+$/;

function isPlain(glob: string): boolean {
  return PLAIN.test(glob) && glob.split('/').every(component => component === '**' || !component.includes('**'));
}

/** The same as picomatch gives, but never slower than the product of both lengths: whoever asks chooses the name. */
function createPlainTest(glob: string): (name: string) => boolean {
  const components = glob.split('/');
  if (!glob.includes('*')) return name => name === glob;
  return name => {
    const names = name.split('/');
    // Such names lead elsewhere: no star is for them.
    return !names.some(part => part === '.' || part === '..') && matchComponents(names, components);
  };
}

/** As in a glob of one line, only that `**` is what takes as many as there are. Only the last is ever tried anew. */
function matchComponents(names: readonly string[], components: readonly string[]): boolean {
  let [at, place, star, retry] = [0, 0, -1, 0];
  while (at < names.length) {
    const component = components[place];
    if (component === '**') {
      [star, retry] = [place, at];
      place += 1;
    } else if (component !== undefined && matchComponent(names[at] ?? '', component)) {
      at += 1;
      place += 1;
    } else if (star >= 0) {
      retry += 1;
      [at, place] = [retry, star + 1];
    } else return false;
  }
  // At the end it takes one component or more.
  return place === components.length;
}

function matchComponent(name: string, component: string): boolean {
  let [at, place, star, retry] = [0, 0, -1, 0];
  while (at < name.length) {
    if (component[place] === '*') {
      [star, retry] = [place, at];
      place += 1;
    } else if (component[place] === name[at]) {
      at += 1;
      place += 1;
    } else if (star >= 0) {
      retry += 1;
      [at, place] = [retry, star + 1];
    } else return false;
  }
  while (component[place] === '*') place += 1;
  return place === component.length;
}

/** Whether one of the patterns matches both a repository and its tag. */
export function createTagTest(patterns: readonly TagPattern[]): (repository: string, tag: string) => boolean {
  const tests = patterns.map(({ repositories, tags }) => [createNameTest(repositories), createNameTest(tags)] as const);
  return (repository, tag) => tests.some(([isName, isTag]) => isName(repository) && isTag(tag));
}
