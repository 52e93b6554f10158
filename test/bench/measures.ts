// What is measured, one function a figure. Each fails rather than measuring error answers.
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createLayer, INDEX_TYPE } from './image.ts';
import { findProgram, run } from './processes.ts';

/** Requests a second for one URL, kept warm by a first request. */
export async function measureRequests(url: string): Promise<number> {
  await request(url);
  const args = ['-t1', '-c32', '-d3', '-H', `Accept: ${INDEX_TYPE}`, url];
  const output = await run({ file: findProgram('wrk'), args });
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(output)?.[1];
  if (rate === undefined || output.includes('Non-2xx')) throw new Error(`wrk measured no clean run:\n${output}`);
  return Number(rate);
}

/** MiB a second of one blob to one client, after a first pull: the median of `runs`. */
export async function measureThroughput(url: string, runs: number): Promise<number> {
  await pullBlob(url);
  return median(await repeat(runs, () => pullBlob(url)));
}

/** Milliseconds from the submit of a new environment and layer to the manifest that has them: the median of `runs`. */
export async function measureAugmentation(veneer: string, image: string, runs: number): Promise<number> {
  return median(await repeat(runs, run => timeAugmentation(veneer, image, `veneer ${run}`)));
}

/** The same change by `regctl image mod`, to a new tag beside the image. */
export async function measureMod(registry: string, image: string, runs: number, directory: string): Promise<number> {
  return median(await repeat(runs, run => timeMod(registry, image, `peer ${run}`, directory)));
}

async function timeAugmentation(veneer: string, containerImage: string, change: string): Promise<number> {
  const layer = await createLayer(change);
  const location = `data:application/x-tar;base64,${layer.toString('base64')}`;
  const containerConfig = { env: [`BENCH=${change}`], layers: [{ location }] };
  const start = performance.now();
  const submit = await request(`http://${veneer}/v1alpha2/container`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ containerImage, containerConfig }),
  });
  const target = /"targetImage":"[^/"]+\/([^"]+):([^":]+)"/.exec(await submit.text());
  if (target === null) throw new Error('the submit gave no image to pull');
  await request(`http://${veneer}/v2/${target[1]}/manifests/${target[2]}`);
  return performance.now() - start;
}

async function timeMod(registry: string, image: string, change: string, parent: string): Promise<number> {
  const directory = await mkdtemp(join(parent, 'mod-'));
  const tar = join(directory, 'layer.tar');
  await writeFile(tar, await createLayer(change));
  const created = change.replace(' ', '-');
  const host = ['--host', `reg=${registry},tls=disabled`];
  const edit = ['--create', created, '--env', `BENCH=${change}`, '--layer-add', `tar=${tar}`];
  const args = [...host, 'image', 'mod', `${registry}/${image}`, ...edit];
  const start = performance.now();
  await run({ file: findProgram('regctl'), args, env: { HOME: directory, DOCKER_CONFIG: directory } });
  const name = image.slice(0, image.lastIndexOf(':'));
  await request(`http://${registry}/v2/${name}/manifests/${created}`);
  return performance.now() - start;
}

async function pullBlob(url: string): Promise<number> {
  const format = '%{http_code} %{speed_download}';
  const output = await run({ file: findProgram('curl'), args: ['-sSf', '-o', '/dev/null', '-w', format, url] });
  const [status, bytesPerSecond] = output.split(' ').map(Number);
  if (status !== 200 || bytesPerSecond === undefined) throw new Error(`${url}: ${output}`);
  return bytesPerSecond / 2 ** 20;
}

async function request(url: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(url, { ...init, headers: { accept: INDEX_TYPE, ...init.headers } });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return new Response(await response.arrayBuffer());
}

async function repeat(runs: number, measure: (run: number) => Promise<number>): Promise<readonly number[]> {
  const figures: number[] = [];
  for (let run = 0; run < runs; run += 1) figures.push(await measure(run));
  return figures;
}

function median(figures: readonly number[]): number {
  const middle = figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)];
  if (middle === undefined) throw new Error('nothing was measured');
  return middle;
}
