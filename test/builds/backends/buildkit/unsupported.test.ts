// What cannot be handed over on a command line.
import { expect, test } from 'vitest';
import { findUnsupportedArgument } from '../../../../src/builds/backends/buildkit/command.ts';
import { specSchema } from '../../../../src/builds/spec.ts';

test.each<[name: string, fields: object, reason: RegExp | undefined]>([
  ['nothing', {}, undefined],
  ['values of any text', { args: { A: 'a=b\n,"' }, labels: { 'a.b': 'c' } }, undefined],
  ['attestations by a build argument', { args: { BUILDKIT_ATTEST_SBOM: '' } }, /BUILDKIT_ATTEST_SBOM is reserved/],
  ['the form of the result', { args: { BUILDKIT_MULTI_PLATFORM: '1' } }, /BUILDKIT_MULTI_PLATFORM is reserved/],
  ['a value over the limit of Linux', { args: { A: 'ä'.repeat(70_000) } }, /"A" is over 120 KiB/],
  ['a NUL', { labels: { a: '\0' } }, /"a" has a character/],
  ['a name that holds a value', { args: { 'A=B': '' } }, /"A=B" has a character/],
])('reports why %s is unsupported', (_, fields, reason) => {
  const spec = specSchema.parse({
    ...{ kind: 'containerfile', containerFile: '', platforms: ['linux/amd64'], bases: {}, target: { repository: 'r' } },
    ...fields,
  });
  const found = spec.kind === 'containerfile' ? findUnsupportedArgument(spec) : 'not the spec of a Containerfile';
  if (reason) expect(found).toMatch(reason);
  else expect(found).toBeUndefined();
});
