// `veneer repo`: the hosted repositories of a running service, and their tags.
import { Command } from 'commander';
import { z } from 'zod';
import { plainText, print } from './output.ts';
import { parseAnswer } from './service/builds.ts';
import { type Hints, refusalOf, type Service, sendRequest } from './service/service.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

const catalogSchema = z.object({ repositories: z.array(z.string()) });
const tagsSchema = z.object({ tags: z.array(z.string()) });

const HINT = 'set VENEER_TOKEN to a token with the right to pull it';
const HINTS: Hints = { 401: HINT, 403: HINT };

export function createRepoCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('repo').description('the hosted repositories of a service');
  const list = command
    .command('ls')
    .alias('list')
    .description('lists the repositories that you may pull from, or the tags of one')
    .argument('[repository]', 'the repository whose tags to list, such as local/app')
    .option('--json', 'prints a list as JSON');
  addServerOption(list).action(
    async (repository: string | undefined, { json }: { readonly json?: boolean }, self: Command) =>
      callService(self, deps, async ({ service }) => {
        const found =
          repository === undefined
            ? await readPages(service, '/v2/_catalog', text => parse(catalogSchema, text, service).repositories)
            : await readPages(service, `/v2/${repository}/tags/list`, text => parse(tagsSchema, text, service).tags);
        const lines = json ? [JSON.stringify(found, undefined, 2)] : found.map(plainText);
        for (const line of lines) print(self, line);
      }),
  );
  return command;
}

function parse<T>(schema: z.ZodType<T>, text: string, { url }: Service): T {
  return parseAnswer(schema, text, url.host);
}

/** All pages, following their Link headers. Throws ServiceRefused. */
async function readPages(
  service: Service,
  first: string,
  read: (text: string) => readonly string[],
): Promise<readonly string[]> {
  const all: string[] = [];
  let path: string | undefined = first;
  while (path !== undefined) {
    const response: Response = await sendRequest(service, path);
    if (!response.ok) throw await refusalOf(response, HINTS);
    all.push(...read(await response.text()));
    path = /^<([^>]+)>; *rel="next"$/.exec(response.headers.get('Link') ?? '')?.[1];
  }
  return all;
}
