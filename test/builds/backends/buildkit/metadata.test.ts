// The digest that a client wrote down.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readMetadata } from '../../../../src/builds/backends/buildkit/workspace.ts';
import { BuildFailure } from '../../../../src/builds/execution.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

test.each([
  ['tells the digest', `{"containerimage.digest":"${DIGEST}","other":{}}`, DIGEST],
  ['tells none', '{}', undefined],
  ['tells something else', '{"containerimage.digest":"latest"}', undefined],
  ['is cut', '{"contain', undefined],
])('a metadata file that %s', async (_, content, digest) => {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-metadata-'));
  try {
    const path = join(folder, 'metadata.json');
    await writeFile(path, content);
    if (digest) expect(await readMetadata(path)).toBe(digest);
    else await expect(readMetadata(path)).rejects.toThrow(BuildFailure);
  } finally {
    await rm(folder, { recursive: true });
  }
});
