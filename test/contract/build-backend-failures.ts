// How builders fail: whose fault it is, on which platform, in which step, in one line.
import { describe, expect, test } from 'vitest';
import type { Bench } from '../support/build-bench.ts';

const ONE_LINE = /^[^\n\r]{1,400}$/;

export function failureContract(
  getBench: () => Bench,
  { takesCredentials }: { readonly takesCredentials: boolean },
): void {
  describe('a failure of the Containerfile', () => {
    test('says which file is missing, on which platform and in which step', async () => {
      const { place, fail } = getBench();
      const containerFile = `FROM ${place.base}\nCOPY missing.txt /\n`;
      const { failure } = await fail({ containerFile, context: { other: '' }, platforms: ['linux/arm64'] });
      expect(failure).toMatchObject({ kind: 'build', platform: 'linux/arm64', step: 'COPY missing.txt /' });
      expect(failure.reason).toMatch(ONE_LINE);
      expect(failure.reason).toContain('missing.txt');
    });

    test('says which base is missing', async () => {
      const { place, fail } = getBench();
      const { failure } = await fail({ containerFile: `FROM ${place.registry}/library/missing:1\n` });
      expect(failure).toMatchObject({ kind: 'build', reason: expect.stringMatching(ONE_LINE) });
      expect(failure.reason).toContain('library/missing:1');
    });

    test('says which stage is unknown', async () => {
      const { place, fail } = getBench();
      const { failure } = await fail({ containerFile: `FROM ${place.base}\n`, spec: { stage: 'nowhere' } });
      expect(failure).toMatchObject({ kind: 'build', reason: expect.stringMatching(ONE_LINE) });
      expect(failure.reason).toContain('nowhere');
    });
  });

  describe('a registry that wants credentials', () => {
    test('takes a push with the right ones', async () => {
      const { place, build } = getBench();
      const { registry, credentials } = place.guarded;
      const { pushed, digest } = await build({
        containerFile: `FROM ${place.base}\nLABEL guarded=1\n`,
        credentials: { [registry]: credentials },
        image: `${registry}/builds/guarded:1`,
      });
      expect(pushed.digest).toBe(digest);
    });

    // What pushes with the service's own connections is refused by its tests, not by a build's credentials.
    if (!takesCredentials) return;
    test.each([
      ['without credentials', undefined],
      ['with a wrong password', { username: 'builder', password: 'canary-wrong-password' }],
    ])('refuses a push %s: another attempt would change nothing, and no password is reported', async (_, wrong) => {
      const { place, fail } = getBench();
      const { registry } = place.guarded;
      const { failure, events } = await fail({
        containerFile: `FROM ${place.base}\nLABEL refused=1\n`,
        credentials: wrong ? { [registry]: wrong } : {},
        image: `${registry}/builds/refused:1`,
      });
      expect(failure).toMatchObject({ kind: 'build', reason: expect.stringMatching(ONE_LINE) });
      expect(JSON.stringify([failure, events])).not.toContain('canary-wrong');
    });
  });
}
