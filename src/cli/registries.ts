// `veneer registries`: the caller's credentials of private registries, stored by a running service.
import { text } from 'node:stream/consumers';
import { Command } from 'commander';
import { z } from 'zod';
import { explain, formatColumns, plainText, print, printJson } from './output.ts';
import { NothingToSend } from './sender.ts';
import { parseAnswer } from './service/builds.ts';
import { type Hints, refusalOf, type Service, sendRequest } from './service/service.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

const listSchema = z.object({
  registries: z.array(z.object({ registry: z.string(), userName: z.string(), updatedAt: z.string() })),
});

const HINTS: Hints = { 401: 'set VENEER_TOKEN to an access token or <user>:<password>' };

export function createRegistriesCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('registries').description('your credentials of private registries, stored by a service');
  addList(command, deps);
  addSet(command, deps);
  addRemove(command, deps);
  return command;
}

function addList(command: Command, deps: ServiceCommandDeps): void {
  const list = command.command('ls').alias('list').description('lists registries and user names, without passwords');
  list.option('--json', 'prints them as JSON');
  addServerOption(list).action(async ({ json }: { readonly json?: boolean }, self: Command) =>
    callService(self, deps, async ({ service }) => {
      const answer = await ask(service, '');
      const { registries } = parseAnswer(listSchema, await answer.text(), service.url.host);
      if (json) return printJson(self, registries);
      const rows = registries.map(({ registry, userName, updatedAt }) =>
        [registry, userName, updatedAt].map(plainText),
      );
      for (const line of formatColumns(['REGISTRY', 'USER', 'SET'], rows)) print(self, line);
    }),
  );
}

function addSet(command: Command, deps: ServiceCommandDeps): void {
  const set = command
    .command('set')
    .description('stores credentials of a registry; the password is read from standard input')
    .argument('<registry>', 'such as registry.example:5000, or an alias of the service')
    .requiredOption('--username <name>', 'at that registry');
  addServerOption(set).action(async (registry: string, { username }: { readonly username: string }, self: Command) =>
    callService(self, deps, async ({ service }) => {
      // Not an option, since other users of the machine can see those.
      const password = (await text(deps.stdin)).replace(/\r?\n$/, '');
      if (password === '') throw new NothingToSend('there is no password on standard input');
      const body = JSON.stringify({ userName: username, password });
      const headers = { 'Content-Type': 'application/json' };
      await (await ask(service, registry, { method: 'PUT', headers, body })).body?.cancel();
      explain(self, plainText(`${registry}: stored for ${username}`));
    }),
  );
}

function addRemove(command: Command, deps: ServiceCommandDeps): void {
  const remove = command.command('rm').alias('delete').description('deletes them').argument('<registry>', 'as listed');
  addServerOption(remove).action(async (registry: string, _, self: Command) =>
    callService(self, deps, async ({ service }) => {
      await (await ask(service, registry, { method: 'DELETE' })).body?.cancel();
      explain(self, plainText(`${registry}: deleted`));
    }),
  );
}

/** Throws ServiceRefused. */
async function ask(service: Service, registry: string, init: RequestInit = {}): Promise<Response> {
  const path = registry === '' ? '/v1/registries' : `/v1/registries/${encodeURIComponent(registry)}`;
  const response = await sendRequest(service, path, init);
  if (!response.ok) throw await refusalOf(response, HINTS);
  return response;
}
