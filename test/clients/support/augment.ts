// The augmentation that the clients look for, and its request.
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { expect } from 'vitest';
import { z } from 'zod';

const Submitted = z.object({ targetImage: z.string(), targetDigest: z.string() });

export const ADDED = {
  env: 'ADDED=yes',
  workingDir: '/opt/veneer',
  cmd: ['/bin/sh', '-c', 'echo $ADDED $BASE; pwd; busybox cat hello'],
  label: 'yes',
} as const;

/** What a container of the augmented image prints: the variables of both, the working directory and the injected file. */
export const PRINTED = 'yes 1\n/opt/veneer\nhello';

/** A tar with the one file /opt/veneer/hello. */
export async function makeTar(): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: 'opt/veneer/hello', mtime: new Date(0) }, 'hello\n');
  tar.finalize();
  return await buffer(tar);
}

/** Asks Veneer at `address` for the image with all of ADDED and the layer; `headers` may say who asks. */
export async function requestAugmentation(
  address: string,
  containerImage: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Response> {
  const location = `data:${gzipSync(await makeTar()).toString('base64')}`;
  const { env, workingDir, cmd, label } = ADDED;
  const containerConfig = { env: [env], workingDir, cmd, labels: { added: label }, layers: [{ location }] };
  return await fetch(`http://${address}/v1alpha2/container`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ containerImage, containerConfig }),
  });
}

/** As above; anything but a success fails the test. */
export async function submitAugmentation(
  address: string,
  containerImage: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<z.infer<typeof Submitted>> {
  const response = await requestAugmentation(address, containerImage, headers);
  const body = await response.text();
  expect(response.status, body).toBe(200);
  return Submitted.parse(JSON.parse(body));
}
