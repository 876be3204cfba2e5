_zg_devnet() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words
  if [ "$COMP_CWORD" -eq 1 ]; then words="up down restart status env connect fund accounts contracts logs doctor demo config completion help"; else case "${COMP_WORDS[1]}" in
    up) words="--name --detach --timeout --fresh --ephemeral --data --port-base --block-time --gas-limit --stores --log --json --quiet --verbose --no-color --progress --config --network --help" ;;
    down) words="--name --json --quiet --verbose --no-color --progress --config --network --help" ;;
    restart) words="--name --json --quiet --verbose --no-color --progress --config --network --help" ;;
    status) words="--name --json --quiet --verbose --no-color --progress --config --network --help" ;;
    env) words="--name --format --keys --json --quiet --verbose --no-color --progress --config --network --help" ;;
    connect) words="--name --json --quiet --verbose --no-color --progress --config --network --help" ;;
    fund) words="--name --amount --json --quiet --verbose --no-color --progress --config --network --help" ;;
    accounts) words="--name --keys --json --quiet --verbose --no-color --progress --config --network --help" ;;
    contracts) words="--name --json --quiet --verbose --no-color --progress --config --network --help" ;;
    logs) words="--name --follow --since --level --grep --json --quiet --verbose --no-color --progress --config --network --help" ;;
    doctor) words="--name --json --quiet --verbose --no-color --progress --config --network --help" ;;
    demo) words="--show --json --quiet --verbose --no-color --progress --config --network --help" ;;
    config) words="--help" ;;
    completion) words="--help" ;;
    help) words="--help" ;;
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -F _zg_devnet zg-devnet
