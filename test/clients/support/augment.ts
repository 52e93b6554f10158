// The augmentation that the clients look for, and its request.
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { expect } from 'vitest';
import { z } from 'zod';

const Submitted = z.object({ targetImage: z.string(), targetDigest: z.string() });

export const ADDED = { env: 'ADDED=yes', workingDir: '/opt/veneer', label: 'yes' } as const;

/** A tar with the one file /opt/veneer/hello. */
export async function makeTar(): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: 'opt/veneer/hello', mtime: new Date(0) }, 'hello\n');
  tar.finalize();
  return await buffer(tar);
}

/** Asks Veneer at `address` for the image with env, working directory, label and layer added. */
export async function submitAugmentation(address: string, containerImage: string): Promise<z.infer<typeof Submitted>> {
  const location = `data:${gzipSync(await makeTar()).toString('base64')}`;
  const { env, workingDir, label } = ADDED;
  const containerConfig = { env: [env], workingDir, labels: { added: label }, layers: [{ location }] };
  const response = await fetch(`http://${address}/v1alpha2/container`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ containerImage, containerConfig }),
  });
  const body = await response.text();
  expect(response.status, body).toBe(200);
  return Submitted.parse(JSON.parse(body));
}
