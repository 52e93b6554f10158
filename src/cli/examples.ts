// Examples of each command, shown in its help and in the manual page.
import type { Command } from 'commander';

interface Example {
  /** As it is typed. */
  readonly line: string;
  readonly meaning: string;
}

/** By the words of a command. A group has the most common examples of its commands. */
export const EXAMPLES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  veneer: {
    'veneer --config veneer.yaml': 'starts the service',
    'veneer augment docker.io/library/alpine:3 --env GREETING=hello':
      'adds a variable to an image of a running service',
    'veneer mirror-config containerd': 'prints the file that makes containerd pull through the service',
  },
  'veneer config': {
    'veneer config check': 'lists all faults, before the service is restarted',
    'veneer config show': 'shows every value with its source',
  },
  'veneer config check': {
    'veneer config check /etc/veneer/veneer.yaml': 'checks this file',
    'veneer config check --json': 'prints files, lines and keys for a script',
  },
  'veneer config schema': {
    'veneer config schema > veneer.schema.json': 'for editors: # yaml-language-server: $schema=veneer.schema.json',
  },
  'veneer status': {
    'veneer status': 'shows what is slow, failing, rate-limited or full',
    'veneer status --server https://veneer.example --json': 'the same for another machine, as JSON',
  },
  'veneer repo': {
    'veneer repo ls': 'lists the repositories that were pushed to',
    'veneer repo ls local/app': 'lists the tags of one',
  },
  'veneer doctor': {
    'veneer doctor': 'lists problems, each with its remedy',
    'veneer --config /etc/veneer/veneer.yaml doctor --all': 'also lists checks that passed, with this configuration',
  },
  'veneer build': {
    'veneer build .': 'builds the Containerfile or Dockerfile of this directory',
    'veneer build . --platform linux/amd64,linux/arm64 -t local/app:1':
      'builds for two platforms, and pushes the image',
    'veneer build -f - < Containerfile': 'builds without a context',
  },
  'veneer augment': {
    'veneer augment docker.io/library/alpine:3 --env GREETING=hello': 'sets a variable',
    'veneer augment docker.io/library/alpine:3 --layer ./layer -t local/tool:1':
      'adds the files of a directory, and pushes the image',
    'veneer augment quay.io/org/app:2 --layer ./arm:linux/arm64': 'adds a layer for one platform only',
  },
  'veneer builds': {
    'veneer builds ls --status failed': 'lists builds that failed, and why',
    'veneer builds log bd-0123456789abcdef_1': 'follows the log of a build',
  },
  'veneer builds ls': {
    'veneer builds ls --status failed --limit 5': 'lists the last five that failed',
    'veneer builds ls --json': 'prints all that the service knows about them',
  },
  'veneer rules': {
    'veneer rules explain docker.io/library/alpine:3': 'shows which rules change an image, and how',
    'veneer rules ls': 'lists the active rules',
  },
  'veneer rules explain': {
    'veneer rules explain docker.io/library/alpine:3 --platform linux/arm64': 'explains one platform',
    'veneer rules explain docker.io/library/alpine:3 --caller ci': 'explains what another user gets',
  },
  'veneer registries': {
    'veneer registries set registry.example:5000 --username ada < password.txt': 'stores a password for a registry',
  },
  'veneer cache': {
    'veneer cache stat': 'shows how full the cache is',
    'veneer cache prune --older-than 30d --dry-run': 'shows what has not been used for a month',
    'veneer cache warm docker.io/library/alpine:3': 'fills the cache with an image',
  },
  'veneer token': {
    'veneer token create --push "local/**" --ttl 12h --name ci': 'creates a token that may push to local/',
    'veneer token ls': 'lists access tokens',
    'veneer token ls --images': 'lists the tokens in names of images, such as those of a workflow',
    'veneer token revoke --workflow 1a2b3c': 'revokes all tokens of a workflow',
  },
  'veneer token create': {
    'veneer token create --pull "docker.io/**" "quay.io/**"': 'may pull from two registries',
    'veneer token create --push "local/**" --ttl 12h --name ci': 'may push to local/ for half a day',
    'veneer token create --admin': 'may administer the service',
  },
  'veneer gc': {
    'veneer gc --dry-run': 'shows what would be removed',
  },
  'veneer backup': {
    'veneer backup /srv/backup/veneer': 'copies what is new since the last time, while the service runs',
  },
  'veneer restore': {
    'veneer restore /srv/backup/veneer --data-dir /var/lib/veneer': 'creates a data directory from a backup',
  },
  'veneer repair': {
    'veneer repair --dry-run': 'shows what a repair would change',
  },
  'veneer migrate': {
    'veneer migrate --from sqlite --to postgres': 'moves the records to the database in state.postgres',
  },
  'veneer mirror-config': {
    'veneer mirror-config docker': 'prints the key for /etc/docker/daemon.json',
    'veneer mirror-config podman --address https://veneer.example': 'prints a file of registries.conf.d',
    'veneer mirror-config containerd --upstream quay.io,ghcr.io --strict': 'never asks these registries directly',
  },
  'veneer completion': {
    'eval "$(veneer completion bash)"': 'completes in this bash; for all of them put it into ~/.bashrc',
    'source <(veneer completion zsh)': 'the same for zsh, after compinit in ~/.zshrc',
    'veneer completion fish > ~/.config/fish/completions/veneer.fish': 'the same for fish',
  },
  'veneer man': {
    'veneer man | man -l -': 'reads the manual page',
    'veneer man > /usr/local/share/man/man1/veneer.1': 'installs it for `man veneer`',
  },
};

export function findExamples(command: Command): readonly Example[] {
  const ofCommand = EXAMPLES[findWords(command)] ?? {};
  return Object.entries(ofCommand).map(([line, meaning]) => ({ line, meaning }));
}

/** Adds its examples to the help of a command, and to that of all commands below it. */
export function addExamples(command: Command): Command {
  const lines = findExamples(command).map(({ line, meaning }) => `  # ${meaning}\n  $ ${line}`);
  if (lines.length > 0) command.addHelpText('after', `\n${['Examples:', ...lines].join('\n')}`);
  for (const below of command.commands) addExamples(below);
  return command;
}

/** `veneer token create`. */
export function findWords(command: Command): string {
  return command.parent ? `${findWords(command.parent)} ${command.name()}` : command.name();
}
