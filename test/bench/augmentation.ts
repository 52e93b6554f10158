// The same change of an image by Veneer and by the peer: an environment variable and a layer, on every platform.
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Benchmark } from './benchmark.ts';
import { NAMES, repositoryAt } from './environment.ts';
import { createLayer, pushImage } from './image.ts';
import { findProgram, run, type Server } from './processes.ts';
import { request } from './requests.ts';

const TAG = 'change';

export const AUGMENTATION: Benchmark = {
  rows: [
    {
      name: 'augmentation',
      what: 'new environment and layer, three platforms',
      unit: 'ms',
      better: 'lower',
      peer: 'regctl',
    },
  ],
  async prepare(environment) {
    const upstream = await environment.upstream();
    const { veneer } = await environment.proxies();
    await pushImage(repositoryAt(upstream), TAG);
    const change = (server: Server, name: string, value: string) => ({
      registry: server.address,
      image: `${name}:${TAG}`,
      value,
    });
    return async pair => [
      {
        veneer: await timeAugmentation(change(veneer, NAMES.veneer, `veneer-${pair}`)),
        peer: await timeMod(change(upstream, NAMES.peer, `peer-${pair}`), environment.directory),
      },
    ];
  },
};

interface Change {
  /** host:port of who makes it. */
  readonly registry: string;
  /** name:tag of the image. */
  readonly image: string;
  /** Of which no two are equal. */
  readonly value: string;
}

/** Milliseconds from the submit of the change to the manifest that has it. */
export async function timeAugmentation({ registry, image, value }: Change): Promise<number> {
  const layer = await createLayer(value);
  const location = `data:application/x-tar;base64,${layer.toString('base64')}`;
  const containerConfig = { env: [`BENCH=${value}`], layers: [{ location }] };
  const start = performance.now();
  const submit = await request(`http://${registry}/v1alpha2/container`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ containerImage: image, containerConfig }),
  });
  const target = /"targetImage":"[^/"]+\/([^"]+):([^":]+)"/.exec(await submit.text());
  if (target === null) throw new Error('the submit gave no image to pull');
  await request(`http://${registry}/v2/${target[1]}/manifests/${target[2]}`);
  return performance.now() - start;
}

/** Milliseconds of `regctl image mod` to a new tag beside the image, until its manifest is there; with its files in `parent`. */
async function timeMod({ registry, image, value }: Change, parent: string): Promise<number> {
  const directory = await mkdtemp(join(parent, 'mod-'));
  const tar = join(directory, 'layer.tar');
  await writeFile(tar, await createLayer(value));
  const host = ['--host', `reg=${registry},tls=disabled`];
  const edit = ['--create', value, '--env', `BENCH=${value}`, '--layer-add', `tar=${tar}`];
  const args = [...host, 'image', 'mod', `${registry}/${image}`, ...edit];
  const start = performance.now();
  await run({ file: findProgram('regctl'), args, env: { HOME: directory, DOCKER_CONFIG: directory } });
  const name = image.slice(0, image.lastIndexOf(':'));
  await request(`http://${registry}/v2/${name}/manifests/${value}`);
  return performance.now() - start;
}
