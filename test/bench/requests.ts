// What small requests cost. All fail rather than measuring error answers.
import { INDEX_TYPE } from './image.ts';
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

export async function request(url: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(url, { ...init, headers: { accept: INDEX_TYPE, ...init.headers } });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return new Response(await response.arrayBuffer());
}
