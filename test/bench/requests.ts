// What small requests cost. All fail rather than measuring error answers.
import { INDEX_TYPE } from './image.ts';
import { findProgram, run, type Server } from './processes.ts';
import { timeProcessor } from './processor.ts';

interface Requests {
  /** Requests a second. */
  readonly rate: number;
  /** Microseconds of processor time that the server takes for each. */
  readonly processor: number;
}

/** Of one URL of the server, kept warm by a first request. */
export async function measureRequests(server: Server, url: string): Promise<Requests> {
  await request(url);
  const args = ['-t1', '-c32', '-d3', '-H', `Accept: ${INDEX_TYPE}`, url];
  const { result, milliseconds } = await timeProcessor(server, () => run({ file: findProgram('wrk'), args }));
  const rate = Number(/Requests\/sec:\s+([\d.]+)/.exec(result)?.[1]);
  const count = Number(/(\d+) requests in/.exec(result)?.[1]);
  if (!(rate > 0 && count > 0) || result.includes('Non-2xx')) throw new Error(`wrk measured no clean run:\n${result}`);
  return { rate, processor: (milliseconds * 1000) / count };
}

export async function request(url: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(url, { ...init, headers: { accept: INDEX_TYPE, ...init.headers } });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return new Response(await response.arrayBuffer());
}
