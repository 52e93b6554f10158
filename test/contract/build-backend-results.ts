// What builders make: images and indexes of exactly what was asked for.
import { describe, expect, test } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { Bench } from '../support/build-bench.ts';
import { listCommandLines } from '../support/command-lines.ts';
import { readPushed } from '../support/pushed-image.ts';

/** Not in the order of the alphabet, nor in that of any builder. */
export const PLATFORMS = ['linux/arm64', 'linux/amd64', 'linux/arm/v7'] as const;
const MACHINES = ['aarch64', 'x86_64', 'armv7l'] as const;

/** Characters that some quoting on the way to a builder may lose. */
const AWKWARD: Readonly<Record<string, string>> = {
  comma: 'a,b,"c",d=e',
  space: '  two  spaces ',
  quotes: `it's "quoted" \\ back`,
  lines: 'first\nsecond\n',
  dollar: '$HOME $(id) `id` %s',
  unicode: 'Grüße, 世界',
  empty: '',
};

export function resultContract(getBench: () => Bench): void {
  describe('a build', () => {
    test('for one platform is an image manifest of that platform', async () => {
      const { place, build } = getBench();
      const { pushed, digest } = await build({ containerFile: `FROM ${place.base}\n`, platforms: ['linux/arm64'] });
      expect(pushed).toMatchObject({ mediaType: mediaTypes.ociManifest, platforms: ['linux/arm64'], digest });
    });

    test('from scratch needs no base', async () => {
      const containerFile = 'FROM scratch\nCOPY file /file\n';
      const { pushed } = await getBench().build({ containerFile, context: { file: 'only' } });
      expect(await pushed.images[0]?.readFile('/file')).toBe('only');
    });

    test('gets files of its context and build arguments', async () => {
      const { place, build } = getBench();
      const { pushed } = await build({
        containerFile: `FROM ${place.base}\nARG WHO=nobody\nENV WHO=$WHO\nCOPY a.txt dir/ /here/\n`,
        context: { 'a.txt': 'A', 'dir/b.txt': 'B' },
        spec: { args: { WHO: 'me' } },
      });
      const [image] = pushed.images;
      expect(image?.env).toContain('WHO=me');
      expect([await image?.readFile('/here/a.txt'), await image?.readFile('/here/b.txt')]).toEqual(['A', 'B']);
    });

    test('stops at the stage that was asked for', async () => {
      const { place, build } = getBench();
      const containerFile = `FROM ${place.base} AS first\nENV STAGE=first\nFROM first AS second\nENV STAGE=second\n`;
      const { pushed } = await build({ containerFile, spec: { stage: 'first' } });
      expect(pushed.images[0]?.env).toContain('STAGE=first');
    });

    test('leaves awkward characters in build arguments and labels as they are', async () => {
      const { place, build } = getBench();
      const lines = Object.keys(AWKWARD).map(name => `ARG ${name}\nLABEL arg.${name}="\${${name}}"\n`);
      const containerFile = `FROM ${place.base}\n${lines.join('')}`;
      const { pushed } = await build({ containerFile, spec: { args: AWKWARD, labels: AWKWARD } });
      const fromArguments = Object.entries(AWKWARD).map(([name, value]) => [`arg.${name}`, value]);
      expect(pushed.images[0]?.labels).toMatchObject({ ...AWKWARD, ...Object.fromEntries(fromArguments) });
    });

    test('tells its steps with their platform', async () => {
      const { place, build } = getBench();
      const { events } = await build({ containerFile: `FROM ${place.base}\nCOPY a /a\n`, context: { a: 'a' } });
      const steps = events.filter(({ kind, step }) => kind === 'step' && step?.includes('COPY a /a'));
      expect(steps.map(({ platform }) => platform)).toEqual(steps.map(() => 'linux/amd64'));
      expect(steps.map(({ state }) => state)).toEqual(expect.arrayContaining(['started', 'done']));
    });
  });
}

export function runContract(getBench: () => Bench): void {
  describe('RUN', () => {
    test.each(PLATFORMS.map((platform, i) => [platform, MACHINES[i]] as const))(
      'runs on %s',
      async (platform, machine) => {
        const { place, build } = getBench();
        const containerFile = `FROM ${place.base}\nRUN uname -m > /machine\n`;
        const { pushed } = await build({ containerFile, platforms: [platform] });
        expect((await pushed.images[0]?.readFile('/machine'))?.trim()).toBe(machine);
      },
    );

    test('that fails says on which platform, with its exit code, and its output is reported', async () => {
      const { place, fail } = getBench();
      const containerFile = `FROM ${place.base}\nRUN echo to be seen; exit 7\n`;
      const { failure, events } = await fail({ containerFile, platforms: ['linux/arm/v7'] });
      expect(failure).toMatchObject({ kind: 'build', platform: 'linux/arm/v7', step: 'RUN echo to be seen; exit 7' });
      expect(failure.reason).toMatch(/^.*exit (code|status):? 7.*$/);
      const output = { kind: 'output', platform: 'linux/arm/v7', text: 'to be seen' };
      expect(events).toContainEqual(expect.objectContaining(output));
    });

    test('reads secrets, which are in no command line and not in the image', async () => {
      const { place, prepare } = getBench();
      const value = 'canary-of-the-secret-value';
      const seen: string[] = [];
      const order = await prepare({
        containerFile: `FROM ${place.base}\nRUN --mount=type=secret,id=canary wc -c < /run/secrets/canary > /length\n`,
        secrets: { canary: value },
        credentials: { [place.registry]: { username: 'canary-user', password: 'canary-of-the-password' } },
      });
      const report = () => seen.push(...listCommandLines(/canary-of/));
      await place.backend.build(order, { signal: new AbortController().signal, report });
      expect(seen).toEqual([]);
      const [image] = (await readPushed(order.target.name)).images;
      expect((await image?.readFile('/length'))?.trim()).toBe(String(value.length));
      expect(Buffer.concat((await image?.readAll()) ?? []).includes('canary-of')).toBe(false);
    });
  });
}

export function severalContract(getBench: () => Bench, { hasRun }: { readonly hasRun: boolean }): void {
  describe('a build for several platforms', () => {
    test('is an index of exactly those, in their order', async () => {
      const { place, build } = getBench();
      const run = hasRun ? 'RUN uname -m > /machine\n' : '';
      const { pushed, digest } = await build({
        containerFile: `FROM ${place.base}\nARG TARGETARCH\nENV FOR=$TARGETARCH\nCOPY a /a\n${run}`,
        context: { a: 'a' },
        platforms: PLATFORMS,
      });
      expect(pushed).toMatchObject({ mediaType: mediaTypes.ociIndex, platforms: PLATFORMS, attestations: [], digest });
      expect(pushed.images.map(({ platform }) => platform)).toEqual(PLATFORMS);
      expect(pushed.images.map(({ env }) => env.at(-1))).toEqual(['FOR=arm64', 'FOR=amd64', 'FOR=arm']);
      const machines = await Promise.all(pushed.images.map(image => image.readFile('/machine')));
      expect(machines.map(machine => machine?.trim())).toEqual(MACHINES.map(name => (hasRun ? name : undefined)));
    });

    test('keeps images from scratch apart, whose files are the same', async () => {
      const containerFile = 'FROM scratch\nCOPY file /file\n';
      const { pushed } = await getBench().build({ containerFile, context: { file: 'same' }, platforms: PLATFORMS });
      expect(pushed.platforms).toEqual(PLATFORMS);
    });

    test('tells the steps of each', async () => {
      const { place, build } = getBench();
      const containerFile = `FROM ${place.base}\nCOPY a /several\n`;
      const { events } = await build({ containerFile, context: { a: 'a' }, platforms: PLATFORMS });
      const steps = events.filter(({ kind, step }) => kind === 'step' && step?.includes('COPY a /several'));
      expect(new Set(steps.map(({ platform }) => platform))).toEqual(new Set(PLATFORMS));
    });
  });
}
