// The API of builds as its clients see it. Nothing is polled: the log of a build ends when the build does.
import { expect } from 'vitest';
import { z } from 'zod';

const submittedSchema = z.object({
  requestId: z.string(),
  targetImage: z.string(),
  containerImage: z.string(),
  buildId: z.string(),
  cached: z.boolean(),
  succeeded: z.boolean().optional(),
});
const buildSchema = z.object({
  buildId: z.string(),
  status: z.enum(['queued', 'running', 'succeeded', 'failed']),
  targetImage: z.string(),
  digest: z.string().optional(),
  platforms: z.array(z.string()),
  backends: z.array(z.string()).default([]),
  starts: z.number(),
  reason: z.string().optional(),
  failure: z
    .object({ kind: z.string(), reason: z.string(), platform: z.string().optional(), step: z.string().optional() })
    .optional(),
});

export type Submitted = z.infer<typeof submittedSchema>;
type Build = z.infer<typeof buildSchema>;

export interface BuildsClient {
  /** Any answer. */
  ask(path: string, init?: RequestInit): Promise<Response>;
  /** The answer to a submit, whatever it is. */
  request(body: object): Promise<Response>;
  /** As above; anything but a success fails the test. */
  submit(body: object): Promise<Submitted>;
  find(buildId: string): Promise<Build>;
  list(): Promise<readonly Build[]>;
  /** The whole log, when the build has ended. */
  readLog(buildId: string): Promise<string>;
  /** Waits for the end of what was submitted. */
  awaitEnd(submitted: Pick<Submitted, 'buildId'>): Promise<Build>;
  /** Submits, and waits; a build that fails fails the test. */
  build(body: object): Promise<Submitted & Build>;
}

/** As a request has a Containerfile: in base64, line by line. */
export function containerFile(...lines: readonly string[]): string {
  return Buffer.from(`${lines.join('\n')}\n`).toString('base64');
}

/** Where the manifest of `host/name:tag` is. */
export function manifestPath(image: string): string {
  return image.replace(/^[^/]+(.*):([^:/]+)$/, '/v2$1/manifests/$2');
}

/** `headers` may say who asks. */
export function createBuildsClient(address: string, headers: Readonly<Record<string, string>> = {}): BuildsClient {
  const ask = (path: string, init: RequestInit = {}) =>
    fetch(`http://${address}${path}`, { ...init, headers: { ...headers, ...init.headers } });

  async function readJson(response: Promise<Response>): Promise<unknown> {
    const answer = await response;
    const body = await answer.text();
    expect(answer.status, body).toBe(200);
    return JSON.parse(body);
  }

  const request = (body: object) =>
    ask('/v1alpha2/container', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });

  const submit = async (body: object) => submittedSchema.parse(await readJson(request(body)));
  const find = async (id: string) => buildSchema.parse(await readJson(ask(`/v1alpha1/builds/${id}`)));

  async function readLog(id: string): Promise<string> {
    return await (await ask(`/v1alpha1/builds/${id}/logs`)).text();
  }

  async function awaitEnd({ buildId }: Pick<Submitted, 'buildId'>): Promise<Build> {
    await readLog(buildId);
    return await find(buildId);
  }

  return {
    ask,
    request,
    submit,
    find,
    list: async () =>
      z.object({ builds: z.array(buildSchema) }).parse(await readJson(ask('/v1alpha1/builds?limit=100'))).builds,
    readLog,
    awaitEnd,
    async build(body) {
      const submitted = await submit(body);
      const log = await readLog(submitted.buildId);
      const build = await find(submitted.buildId);
      expect(build.status, log).toBe('succeeded');
      return { ...submitted, ...build, targetImage: submitted.targetImage };
    },
  };
}
