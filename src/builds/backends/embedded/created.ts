// When an image was made: never now, so that the same build gives the same digest.

const EPOCH = 'SOURCE_DATE_EPOCH';
const SECONDS = /^\d{1,11}$/;

/** As the build's SOURCE_DATE_EPOCH says, in seconds since 1970; else 1970. RFC 3339. https://reproducible-builds.org/specs/source-date-epoch/ */
export function createdAt(args: Readonly<Record<string, string>>): string {
  const given = Object.hasOwn(args, EPOCH) ? (args[EPOCH] ?? '') : '';
  const seconds = SECONDS.test(given) ? Number(given) : 0;
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
}
