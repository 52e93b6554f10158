// Whether a rule is for what somebody pulls, and why.
import picomatch from 'picomatch';
import { type ImagePattern, parseImagePattern } from '../oci/image-pattern.ts';
import type { RuleMatch } from './rule.ts';
import type { Subject, Verdict } from './rules.ts';

export interface Matcher {
  judge(subject: Subject): Omit<Verdict, 'rule'>;
  /** Whether it may be for an image that is named by a digest: which tags led to that is not known. */
  mayMatch(subject: Omit<Subject, 'tag'>): boolean;
}

/** What rules call who has no name. */
export const ANONYMOUS = 'anonymous';

/** Throws InvalidPattern. */
export function createMatcher({ image, not, caller }: RuleMatch): Matcher {
  const images = image.map(parseImagePattern);
  const spared = not.map(parseImagePattern);
  const callers = (caller ?? []).map(text => ({ text, matches: createCallerTest(text) }));

  const findCaller = (name = ANONYMOUS) => callers.find(({ matches }) => matches(name));

  function judge({ repository, tag, caller: name }: Subject): Omit<Verdict, 'rule'> {
    const found = images.find(pattern => pattern.matches(repository, tag));
    if (!found) return no(tellUnmatched(images, repository, tag));
    const sparing = spared.find(pattern => pattern.matches(repository, tag));
    if (sparing) return no(`not: ${sparing.text} matches`);
    if (caller === undefined) return yes(`image ${found.text} matches`);
    const known = findCaller(name);
    if (known) return yes(`image ${found.text} and caller ${known.text} match`);
    return no(`no pattern of callers matches ${name ?? ANONYMOUS}`);
  }

  return {
    judge,
    mayMatch: ({ repository, caller: name }) =>
      images.some(pattern => pattern.matchesName(repository)) &&
      !spared.some(pattern => !pattern.isOfTag && pattern.matchesName(repository)) &&
      (caller === undefined || findCaller(name) !== undefined),
  };
}

/** Names of callers have no components: `*` is any part of one. */
function createCallerTest(glob: string): (name: string) => boolean {
  return picomatch(glob, { dot: true, nonegate: true, bash: true });
}

function tellUnmatched(images: readonly ImagePattern[], repository: string, tag: string | undefined): string {
  const isNamed = images.find(pattern => pattern.matchesName(repository));
  if (isNamed && tag === undefined) return `image ${isNamed.text} is of tags, and a digest is named`;
  return `no pattern of images matches ${repository}${tag === undefined ? '' : `:${tag}`}`;
}

function yes(reason: string) {
  return { applies: true, reason };
}

function no(reason: string) {
  return { applies: false, reason };
}
